"""What follows the ledger's events, one file each; `dbupkeep.follower` is the port, `dbupkeep.following` has them work."""
