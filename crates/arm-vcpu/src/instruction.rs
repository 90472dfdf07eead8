//! Loads and stores, decoded from the instruction.
