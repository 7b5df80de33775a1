//! The page cache against a model: sequences of calls that a seed decides, with a fault at each operation of the disk, the
//! filesystem or memory in turn.

mod bytes;
mod disk;
mod faults;
mod file;
mod filesystem;
mod model;
mod random;
mod scenarios;
mod sequences;
mod steps;
mod world;
