#![doc = "Acquit"]
pub mod domain;
pub mod telemetry;
