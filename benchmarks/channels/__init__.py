"""What channel removal is measured on, and how."""
