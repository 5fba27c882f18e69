//! Files: a tensor read when it is asked for, and a file written whole or not at all.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::format::{self, Header};
use crate::error::{Error, Result};

/// An error of the operating system.
fn failed(path: &Path, what: &'static str) -> impl Fn(io::Error) -> Error {
    let path = path.to_path_buf();
    move |error| {
        let (path, kind, description) = (path.clone(), error.kind(), error.to_string());
        Error::File { path, what, kind, description }
    }
}

/// An open file.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    file: Mutex<File>,
}

/// Some bytes of an open file.
#[derive(Debug, Clone)]
pub(super) struct Region {
    opened: Arc<Opened>,
    start: u64,
    length: usize,
}

impl Region {
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Reads the bytes.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        let mut file = self.opened.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = vec![0; self.length];
        file.seek(SeekFrom::Start(self.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(failed(&self.opened.path, "read"))?;
        Ok(bytes)
    }
}

/// What lies behind the header of an open file.
pub(super) struct Body {
    opened: Arc<Opened>,
    start: u64,
}

impl Body {
    /// The bytes of a tensor, by its offsets in the header.
    pub(super) fn region(&self, (begin, end): (usize, usize)) -> Region {
        let (opened, start) = (Arc::clone(&self.opened), self.start + begin as u64);
        Region { opened, start, length: end - begin }
    }
}

/// Opens a file and reads its header.
pub(super) fn open(path: &Path) -> Result<(Header, Body)> {
    let mut file = File::open(path).map_err(failed(path, "opened"))?;
    let about = file.metadata().map_err(failed(path, "opened"))?;
    if about.is_dir() {
        return Err(failed(path, "opened")(ErrorKind::IsADirectory.into()));
    }
    let whole = about.len();
    if whole < format::PREFIX as u64 {
        return Err(format::no_header(whole));
    }
    let mut prefix = [0; format::PREFIX];
    file.read_exact(&mut prefix).map_err(failed(path, "read"))?;
    let length = format::header_length(prefix, whole)?;
    let mut header = vec![0; length];
    file.read_exact(&mut header).map_err(failed(path, "read"))?;
    let start = (format::PREFIX + length) as u64;
    let header = format::parse(&header, whole - start)?;
    let opened = Arc::new(Opened { path: path.to_path_buf(), file: Mutex::new(file) });
    Ok((header, Body { opened, start }))
}

/// A file that is removed again unless it takes its place.
struct Temporary {
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    /// A new file in `folder`, under a name that no other file has.
    fn create(folder: &Path) -> io::Result<(Self, File)> {
        let process = std::process::id();
        let mut number = 0_u32;
        loop {
            let path = folder.join(format!(".tied-linear-{process}-{number}.tmp"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((Self { path, kept: false }, file)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 10_000 => {
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // There is nobody to tell, and the error that led here is told already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes the pieces to a new file beside `path`, which takes its place once it is whole and on the
/// disk. Whatever fails before that, a file that was there is as it was.
pub(super) fn replace<'a>(
    path: &Path,
    pieces: impl IntoIterator<Item = Result<Cow<'a, [u8]>>>,
) -> Result<()> {
    let saving = failed(path, "saved");
    // A link stays one: what it leads to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = target.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let (mut temporary, mut file) = Temporary::create(folder).map_err(&saving)?;
    for piece in pieces {
        file.write_all(&piece?).map_err(&saving)?;
    }
    if let Ok(old) = fs::metadata(&target) {
        file.set_permissions(old.permissions()).map_err(&saving)?;
    }
    file.sync_all().map_err(&saving)?;
    drop(file);
    fs::rename(&temporary.path, &target).map_err(&saving)?;
    temporary.kept = true;
    // The new name is on the disk once the folder is. Not every system can flush one; the file is in
    // place, whole, either way.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}
