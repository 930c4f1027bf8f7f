//! The cost of one 20 ms frame.
