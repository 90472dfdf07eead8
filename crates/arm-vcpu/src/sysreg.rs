//! Names and encodings of system registers.
