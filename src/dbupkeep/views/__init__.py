"""What people and programs see: the command line, the API, the page, metrics. Each says the same of the same job."""
