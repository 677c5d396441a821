"""What is done apart from calls: when it is due, who is at it, and each in a process of its own."""
