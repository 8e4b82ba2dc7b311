//! How a record lies in the file.
