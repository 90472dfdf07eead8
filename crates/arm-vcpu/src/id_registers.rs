//! ID registers as a guest sees them.
