//! Images to train on: the digits which `smartcore` embeds, or IDX files (the format of MNIST and
//! its successors), and the linear optimum that training on them can be measured against.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use smartcore::dataset::digits;
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linalg::traits::evd::EVDDecomposable;
use thiserror::Error;

/// Grey images of one size, scaled to 0..1.
#[derive(Debug, Clone)]
pub struct Images {
    /// Row-major `[count, width * height]`.
    pub pixels: Vec<f32>,
    /// The number of images.
    pub count: usize,
    /// Columns of each image.
    pub width: usize,
    /// Rows of each image.
    pub height: usize,
    /// Where the images come from, for people to read.
    pub source: String,
}

/// Why images could not be read. Each message is one line and names the file or folder.
#[derive(Debug, Error)]
pub enum DataError {
    /// The file or folder could not be opened or read.
    #[error("{}: cannot be read: {cause}", .path.display())]
    Read { path: PathBuf, cause: io::Error },

    /// The gzip stream is cut off, fails its checksum or is followed by something else.
    #[error("{}: damaged gzip stream after {decoded} decoded bytes: {cause}", .path.display())]
    Gzip { path: PathBuf, decoded: u64, cause: io::Error },

    /// The file ends inside its header.
    #[error("{}: expected an IDX header of {HEADER} bytes, found {found}", .path.display())]
    ShortHeader { path: PathBuf, found: usize },

    /// The first four bytes are not those of an IDX file of images.
    #[error(
        "{}: expected an IDX file of images, which starts with the bytes {MAGIC:?}, found {found:?}",
        .path.display()
    )]
    Magic { path: PathBuf, found: [u8; 4] },

    /// The header's sizes hold no pixel.
    #[error(
        "{}: expected at least one image of at least one pixel, found {count} of {width}x{height}",
        .path.display()
    )]
    Empty { path: PathBuf, count: u32, width: u32, height: u32 },

    /// The header's sizes hold more pixels than can be addressed or allocated.
    #[error("{}: {count} images of {width}x{height} do not fit in memory", .path.display())]
    TooLarge { path: PathBuf, count: u32, width: u32, height: u32 },

    /// The file ends before its last pixel.
    #[error("{}: expected {expected} bytes as its header says, found {found}", .path.display())]
    Truncated { path: PathBuf, expected: u64, found: u64 },

    /// The file goes on after its last pixel.
    #[error("{}: expected {expected} bytes as its header says, found more", .path.display())]
    Trailing { path: PathBuf, expected: u64 },

    /// The folder has no file of images.
    #[error(
        "{}: expected a file {TRAINING}* or one IDX file of images, found none among {files} files",
        .path.display()
    )]
    NoCandidate { path: PathBuf, files: usize },

    /// The folder has more than one file of images that might be meant.
    #[error("{}: expected one IDX file of images of a kind, found {}", .path.display(), list(.found))]
    ManyCandidates { path: PathBuf, found: Vec<PathBuf> },
}

/// How an IDX file of images starts: two zeros, the type (unsigned bytes), three dimensions.
const MAGIC: [u8; 4] = [0, 0, 0x08, 3];

/// Bytes of the header: [`MAGIC`], then the count, the rows and the columns as big-endian `u32`.
const HEADER: usize = 16;

/// How a gzip stream starts. No IDX file starts like this, so that a file's name does not matter.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How the usual names of training images start: `train-images-idx3-ubyte`,
/// `train-images.idx3-ubyte`, with or without `.gz`.
const TRAINING: &str = "train-images";

/// How the usual names of test images start.
const TEST: &str = "t10k-images";

/// The 1,797 handwritten digits of 8x8 pixels which `smartcore` embeds.
pub fn digits() -> Images {
    let dataset = digits::load_dataset();
    Images {
        pixels: dataset.data.iter().map(|value| value / 16.0).collect(),
        count: dataset.num_samples,
        width: 8,
        height: 8,
        source: "the handwritten digits embedded in smartcore".to_owned(),
    }
}

/// The training images of a folder of IDX files, plain or compressed by gzip.
///
/// Takes the file whose name starts with `train-images`, or else the only IDX file of images that
/// the folder holds.
pub fn idx_folder(dir: &Path) -> Result<Images, DataError> {
    let files = files_of(dir)?;
    let mut candidates = named(&files, TRAINING);
    if candidates.is_empty() {
        candidates = files.clone();
    }
    match chosen(dir, candidates)? {
        Some(images) => Ok(images),
        None => Err(DataError::NoCandidate { path: dir.to_owned(), files: files.len() }),
    }
}

/// The test images of such a folder: the file whose name starts with `t10k-images`, where there is one
/// besides one whose name starts with `train-images`.
pub fn test_images(dir: &Path) -> Result<Option<Images>, DataError> {
    let files = files_of(dir)?;
    if named(&files, TRAINING).is_empty() {
        return Ok(None);
    }
    chosen(dir, named(&files, TEST))
}

/// The files in a folder, sorted.
fn files_of(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |cause| DataError::Read { path: dir.to_owned(), cause };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Those whose name starts like this.
fn named(files: &[PathBuf], start: &str) -> Vec<PathBuf> {
    let starts = |path: &&PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(start.as_bytes()))
    };
    files.iter().filter(starts).cloned().collect()
}

/// The images of the only file, or of the only one of several that holds images.
fn chosen(dir: &Path, candidates: Vec<PathBuf>) -> Result<Option<Images>, DataError> {
    if let [path] = candidates.as_slice() {
        if named(&candidates, TRAINING).len() + named(&candidates, TEST).len() == 1 {
            return read_idx(path).map(Some);
        }
    }
    let mut found = Vec::new();
    for path in candidates {
        if holds_images(&path)? {
            found.push(path);
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [path] => read_idx(path).map(Some),
        _ => Err(DataError::ManyCandidates { path: dir.to_owned(), found }),
    }
}

/// The images of one IDX file, plain or compressed by gzip.
///
/// The file has to hold exactly the pixels that its header announces. Memory grows with the bytes
/// read, never with what the header says.
pub fn read_idx(path: &Path) -> Result<Images, DataError> {
    let mut source = Source::open(path)?;
    let mut header = [0; HEADER];
    let found = source.fill(&mut header)?;
    let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    if found >= MAGIC.len() && word(0) != MAGIC {
        return Err(DataError::Magic { path: path.to_owned(), found: word(0) });
    }
    if found < HEADER {
        return Err(DataError::ShortHeader { path: path.to_owned(), found });
    }

    let [count, height, width] = [4, 8, 12].map(|at| u32::from_be_bytes(word(at)));
    let too_large = || DataError::TooLarge { path: path.to_owned(), count, width, height };
    if count == 0 || width == 0 || height == 0 {
        return Err(DataError::Empty { path: path.to_owned(), count, width, height });
    }
    let expected = u64::from(width)
        .checked_mul(u64::from(height))
        .and_then(|size| size.checked_mul(u64::from(count)))
        .and_then(|pixels| pixels.checked_add(HEADER as u64))
        .ok_or_else(too_large)?;

    let mut pixels: Vec<f32> = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    while source.taken < expected {
        let wanted = (expected - source.taken).min(chunk.len() as u64) as usize;
        let found = source.fill(&mut chunk[..wanted])?;
        pixels.try_reserve(found).map_err(|_| too_large())?;
        pixels.extend(chunk[..found].iter().map(|&byte| f32::from(byte) / 255.0));
        if found < wanted {
            let found = source.taken;
            return Err(DataError::Truncated { path: path.to_owned(), expected, found });
        }
    }
    // Reading on to the end also lets the decoder compare the checksum.
    if source.fill(&mut chunk[..1])? > 0 {
        return Err(DataError::Trailing { path: path.to_owned(), expected });
    }

    let [count, width, height] = [count, width, height].map(|size| size as usize);
    Ok(Images { pixels, count, width, height, source: path.display().to_string() })
}

/// The mean of each pixel over all images.
pub fn mean(images: &Images) -> Vec<f32> {
    let size = images.width * images.height;
    let mut sums = vec![0.0; size];
    for image in images.pixels.chunks_exact(size.max(1)) {
        for (sum, &pixel) in sums.iter_mut().zip(image) {
            *sum += f64::from(pixel);
        }
    }
    let count = images.count.max(1) as f64;
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

/// The pixels of all images less the `mean` of each pixel.
pub fn centred(pixels: &[f32], mean: &[f32]) -> Vec<f32> {
    pixels.iter().zip(mean.iter().cycle()).map(|(pixel, mean)| pixel - mean).collect()
}

/// The first principal components of samples: what a linear tied layer comes to.
pub struct Principal {
    /// The least squared error per sample that a linear tied layer with as many hidden units can reach
    /// on the samples that it was made of: the sum of all but the largest eigenvalues of their second
    /// moment `(1 / count) XᵀX` (Eckart and Young).
    pub residual: f64,
    /// The eigenvectors of the largest eigenvalues, one row each.
    vectors: Vec<Vec<f64>>,
}

impl Principal {
    /// Those of `pixels`, which are row-major `[count, width]` and as given to the network. `None` where
    /// a pixel is not finite.
    pub fn components(pixels: &[f32], width: usize, components: usize) -> Option<Self> {
        let moment = second_moment(pixels, width);
        if !moment.iter().all(|value| value.is_finite()) {
            return None;
        }
        // The matrix is symmetric, so that its layout does not matter to the result; the
        // decomposition walks along columns, and is fastest where these are contiguous.
        let matrix = DenseMatrix::new(width, width, moment, true).ok()?;
        let evd = matrix.evd_mut(true).ok()?;
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|a, b| evd.d[*b].total_cmp(&evd.d[*a]));
        let (largest, rest) = order.split_at(components.min(width));
        let vector = |&column: &usize| (0..width).map(|row| *evd.V.get((row, column))).collect();
        Some(Self {
            // No eigenvalue is negative, but for rounding.
            residual: rest.iter().map(|index| evd.d[*index].max(0.0)).sum(),
            vectors: largest.iter().map(vector).collect(),
        })
    }

    /// What the components make of samples.
    pub fn reconstruct(&self, pixels: &[f32]) -> Vec<f32> {
        let width = self.vectors.first().map_or(1, Vec::len);
        let mut output = Vec::with_capacity(pixels.len());
        for sample in pixels.chunks_exact(width) {
            let mut sum = vec![0.0; width];
            for vector in &self.vectors {
                let code: f64 = sample.iter().zip(vector).map(|(x, v)| f64::from(*x) * v).sum();
                sum.iter_mut().zip(vector).for_each(|(sum, v)| *sum += code * v);
            }
            output.extend(sum.into_iter().map(|value| value as f32));
        }
        output
    }

    /// The squared error per sample, other samples than those that they were made of included.
    pub fn error(&self, pixels: &[f32]) -> f64 {
        let width = self.vectors.first().map_or(1, Vec::len);
        let output = self.reconstruct(pixels);
        let squares =
            pixels.iter().zip(output).map(|(x, y)| (f64::from(*x) - f64::from(y)).powi(2));
        squares.sum::<f64>() / (pixels.len() / width).max(1) as f64
    }
}

/// `(1 / count) XᵀX` of the row-major `[count, width]` matrix `X`, accumulated in `f64`.
fn second_moment(pixels: &[f32], width: usize) -> Vec<f64> {
    /// Samples that each row of the matrix takes up at a time, while it is in the cache.
    const BATCH: usize = 8;

    let mut moment = vec![0.0; width * width];
    for batch in pixels.chunks(BATCH * width) {
        let batch: Vec<f64> = batch.iter().copied().map(f64::from).collect();
        for i in 0..width {
            let sums = &mut moment[i * width + i..(i + 1) * width];
            for sample in batch.chunks_exact(width).filter(|sample| sample[i] != 0.0) {
                for (sum, pixel) in sums.iter_mut().zip(&sample[i..]) {
                    *sum += sample[i] * pixel;
                }
            }
        }
    }

    let count = (pixels.len() / width).max(1) as f64;
    for i in 0..width {
        for j in i..width {
            moment[i * width + j] /= count;
            moment[j * width + i] = moment[i * width + j];
        }
    }
    moment
}

/// Whether a file starts like an IDX file of images.
fn holds_images(path: &Path) -> Result<bool, DataError> {
    let mut magic = [0; MAGIC.len()];
    let found = Source::open(path)?.fill(&mut magic)?;
    Ok(found == magic.len() && magic == MAGIC)
}

/// The names of files, a few of them, in one line.
fn list(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 4;
    let names = paths.iter().take(SHOWN).filter_map(|path| path.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    let more = if paths.len() > SHOWN { ", ..." } else { "" };
    format!("{}: {}{more}", paths.len(), names.join(", "))
}

/// The bytes of a file, decompressed where they are a gzip stream.
struct Source<'a> {
    path: &'a Path,
    reader: Box<dyn Read>,
    compressed: bool,
    /// How many bytes have been read, decompressed.
    taken: u64,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Self, DataError> {
        let unreadable = |cause| DataError::Read { path: path.to_owned(), cause };
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        let compressed = file.fill_buf().map_err(unreadable)?.starts_with(&GZIP);
        let reader: Box<dyn Read> =
            if compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(Self { path, reader, compressed, taken: 0 })
    }

    /// Reads until the buffer is full or the file ends, and says how many bytes it read.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DataError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    self.taken += read as u64;
                }
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.failed(cause)),
            }
        }
        Ok(filled)
    }

    /// Tells a damaged stream from a file that cannot be read.
    fn failed(&self, cause: io::Error) -> DataError {
        let path = self.path.to_owned();
        let damaged = matches!(
            cause.kind(),
            ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof
        );
        if self.compressed && damaged {
            DataError::Gzip { path, decoded: self.taken, cause }
        } else {
            DataError::Read { path, cause }
        }
    }
}
