"""The checker: keeps what clients were told, asks everybody else, believes nobody, and says what is wrong."""
