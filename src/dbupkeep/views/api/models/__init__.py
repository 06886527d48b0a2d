"""What the API takes and gives, as OpenAPI tells it. `documents` makes what is given; a test holds each against the other."""
