"""Child processes that run as long as this one."""
