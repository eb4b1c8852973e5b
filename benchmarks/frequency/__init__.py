"""What bases are worth: layers quantised in their own space, and in the basis in which they take fewest bytes."""
