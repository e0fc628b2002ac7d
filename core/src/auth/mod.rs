//! The first two locks and who gets locked out: signatures, the replay table, failures by address.

pub mod lockout;
pub mod replay;
pub mod signature;
