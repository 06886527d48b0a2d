"""The shell of the HTTP faces: who is calling, what they may do, how errors are told, and the server."""
