//! Checks that need more than one key.
