//! mmsg.
