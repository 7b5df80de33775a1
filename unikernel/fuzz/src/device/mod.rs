//! What devices write, and the servers behind them.

pub(crate) mod p9;
pub(crate) mod packet;
pub(crate) mod pci;
pub(crate) mod ring;
pub(crate) mod tpm;
