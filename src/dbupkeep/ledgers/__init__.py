"""The durable records: one file for each database that can keep one."""
