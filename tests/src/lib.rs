//! Whole-call scenarios: see the files beside `src`.
