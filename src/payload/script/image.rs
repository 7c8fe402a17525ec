//! What is executed, made ready before the fork.
//!
//! Not left to the standard library, whose exec hands what the kernel refuses to `/bin/sh`: an error page that was
//! fetched in place of a program would be run line by line.

use std::ffi::{CString, NulError, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc::{self, c_char};

/// A program with its arguments and its whole environment.
pub(super) struct Image {
    program: CString,
    arguments: Pointers,
    environment: Pointers,
}

/// An array of C strings that ends with a null pointer.
struct Pointers {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers are to the strings that the same value owns, and that nothing changes.
#[allow(unsafe_code)]
unsafe impl Send for Pointers {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Pointers {}

impl Pointers {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _strings: strings, pointers }
    }
}

impl Image {
    /// Fails where anything holds a NUL byte.
    pub(super) fn new<'a>(
        program: &Path,
        arguments: impl IntoIterator<Item = &'a OsStr>,
        environment: impl IntoIterator<Item = (&'a str, &'a OsStr)>,
    ) -> Result<Self, NulError> {
        let program = CString::new(program.as_os_str().as_bytes())?;
        let mut strings = vec![program.clone()];
        for argument in arguments {
            strings.push(CString::new(argument.as_bytes())?);
        }
        let mut variables = Vec::new();
        for (name, value) in environment {
            variables.push(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
        Ok(Self { program, arguments: Pointers::new(strings), environment: Pointers::new(variables) })
    }

    /// Becomes the program; returns only if that fails. Makes one system call and nothing else.
    #[allow(unsafe_code)]
    pub(super) fn exec(&self) -> io::Error {
        // SAFETY: all three are valid for the call, and the arrays end with a null pointer.
        unsafe {
            libc::execve(self.program.as_ptr(), self.arguments.pointers.as_ptr(), self.environment.pointers.as_ptr())
        };
        io::Error::last_os_error()
    }
}
