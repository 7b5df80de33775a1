//! Files as people and tools write them, and as attackers do.

mod cloud;
mod http;
mod network;
mod volumes;
mod yaml;
