//! Exceptions that EL2 delivers to a guest's EL1.
