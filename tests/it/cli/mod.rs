//! The command line as scripts and people use it, against a running server.

mod control;
mod demo;
mod errors;
mod look;
mod pages;
mod payloads;
mod progress;
mod repository;
mod restart;
mod submit;
mod token;
