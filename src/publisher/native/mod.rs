//! The native publisher: writes a stratum 0 on disk by itself, through [`crate::cvmfs`].
