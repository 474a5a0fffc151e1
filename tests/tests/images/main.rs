//! The images and the compose file, built and run by a real Docker engine.

mod contents;
mod docker;
mod running;
mod stack;
