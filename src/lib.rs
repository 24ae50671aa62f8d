#![doc = "Acquit"]
pub mod domain;

