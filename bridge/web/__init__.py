"""What people see in a browser: the phone."""
