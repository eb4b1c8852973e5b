"""What a pass is, and the manager that distrusts it."""
