//! The error numbers of Linux, by which a server refuses.

use unikernel_vfs::Error;

pub(crate) const ENOENT: u32 = 2;

/// True if an error number says that the server does not know the request: `ENOSYS`, `EOPNOTSUPP`, `ENOTSUPP`.
pub(crate) fn is_unknown_request(number: u32) -> bool {
    matches!(number, 38 | 95 | 524)
}

/// What an error number means here.
pub(crate) fn error(number: u32) -> Error {
    match number {
        1 => Error::NotPermitted,                 // EPERM
        ENOENT | 116 => Error::NotFound,          // ESTALE
        7 | 27 | 34 | 75 => Error::TooLarge,      // E2BIG, EFBIG, ERANGE, EOVERFLOW
        12 => Error::NoMemory,                    // ENOMEM
        13 => Error::Denied,                      // EACCES
        17 => Error::Exists,                      // EEXIST
        20 => Error::NotADirectory,               // ENOTDIR
        21 => Error::IsADirectory,                // EISDIR
        22 | 40 => Error::Invalid,                // EINVAL; ELOOP, from a server that follows no link
        26 => Error::NotPermitted,                // ETXTBSY
        28 | 122 => Error::NoSpace,               // ENOSPC, EDQUOT
        30 => Error::ReadOnly,                    // EROFS
        31 => Error::TooManyLinks,                // EMLINK
        36 => Error::NameTooLong,                 // ENAMETOOLONG
        18 | 38 | 95 | 524 => Error::Unsupported, // EXDEV, ENOSYS, EOPNOTSUPP, ENOTSUPP
        39 => Error::NotEmpty,                    // ENOTEMPTY
        61 => Error::NoAttribute,                 // ENODATA
        _ => Error::Device,
    }
}
