"""What a user would pick instead of fivenines, measured beside it with the same durability."""
