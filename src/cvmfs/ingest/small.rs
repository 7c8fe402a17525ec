//! Certificates and metainfo, which a replica does not copy: it compresses their text anew, as zlib does at level 6, and
//! stores that under the name that the manifest has (`cvmfs/swissknife_pull.cc`). So the object here must be of the very
//! bytes that zlib makes, or the replica's has another hash than its name, and no client believes it.

use std::io::Write;

use flate2::Compression as Level;
use flate2::write::ZlibEncoder;

use super::super::Error;
use super::super::catalog::Compression;
use super::super::hash::ObjectKind;
use super::blocks::BLOCK;
use super::writer::Writer;
use super::{Ingest, Staged};

/// Of this library: what it makes of short texts at this level is what zlib makes at level 6.
const LEVEL: Level = Level::new(9);

/// The second byte of a zlib stream, which tells the level: of level 6.
const HEADER: u8 = 0x9c;

impl Ingest {
    /// Stores a certificate or metainfo. The bytes are zlib's for a certificate that is nothing but its PEM block, and for
    /// metainfo of a few lines; longer texts may come out otherwise.
    pub fn add_small(&mut self, kind: ObjectKind, content: &[u8]) -> Result<Staged, Error> {
        let stored = compress(content).map_err(Error::io("compress in memory"))?;
        let mut writer = Writer::new(self.objects.clone(), self.algorithm, Compression::None, LEVEL);
        writer.begin();
        for block in stored.chunks(BLOCK) {
            writer.block(block, false)?;
        }
        Ok(Staged { hash: writer.finish(kind)?, size: content.len() as u64 })
    }
}

fn compress(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), LEVEL);
    encoder.write_all(content)?;
    let mut stored = encoder.finish()?;
    if let Some(header) = stored.get_mut(1) {
        *header = HEADER;
    }
    Ok(stored)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::cvmfs::fetch::{Fetch, LocalDir};
    use crate::cvmfs::metainfo;
    use crate::cvmfs::object;
    use crate::cvmfs::reader::Expiry;
    use crate::cvmfs::stratum0::Stratum0;
    use crate::cvmfs::tests::support::golden;

    #[test]
    fn what_the_real_tools_stored_comes_out_byte_by_byte() {
        for name in ["sample.example.org", "shake.example.org"] {
            let (_directory, base, keys) = golden(name);
            let manifest = Stratum0::at(&base, name, keys).reader(Expiry::Ignore).unwrap().manifest().clone();
            let metainfo = manifest.metainfo.unwrap();
            for (hash, kind) in [(manifest.certificate, ObjectKind::Certificate), (metainfo, ObjectKind::Metainfo)] {
                let fetch = LocalDir::new(&base);
                let content = object::read_small(&fetch, &hash, kind, 1 << 20).unwrap();
                let mut stored = Vec::new();
                fetch.fetch(&hash.object_path(kind)).unwrap().unwrap().read_to_end(&mut stored).unwrap();
                assert_eq!(compress(&content).unwrap(), stored, "{name} {kind:?}");
            }
        }
    }

    #[test]
    fn new_metainfo_is_what_zlib_makes_of_it() {
        // By zlib 1.2.13 at level 6.
        let expected = "789cabe65250504a492d4e2eca2c28c9cccf53b252502ace4f2b294f2c4ad54bad48cc2dc849d5cb2f4a57d201294c4cc9cdcccb2c2e294a2cc92f02298508a7e62666e620b840e58940558930f394b86ab900d0b21f77";
        assert_eq!(hex::encode(compress(metainfo::initial("software.example.org").as_bytes()).unwrap()), expected);
    }
}
