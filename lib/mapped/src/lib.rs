//! mapped.
