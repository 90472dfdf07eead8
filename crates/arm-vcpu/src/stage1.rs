//! The stage-1 walk in software.
