"""What the database keeps of files and documents."""
