//! Which record ends when, without looking at all of them.
