//! Where bodies come from: a file, standard input, or memory.

use std::path::Path;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};

use super::Line;
use crate::operate::Trouble;

/// The longest line, in bytes: what a NATS server takes by default, less room for headers.
pub const LONGEST_LINE: u64 = 1_000_000;

/// One body per line of `reader`, byte for byte without its newline; an empty line is an empty body. A line longer than
/// [`LONGEST_LINE`] ends the stream with an error, so that memory stays bounded.
pub fn lines<R: AsyncBufRead + Unpin>(reader: R) -> impl Stream<Item = Result<Line, Trouble>> {
    stream::try_unfold((reader, 0_u64), |(mut reader, before)| async move {
        let number = before.saturating_add(1);
        let mut body = Vec::new();
        let most = LONGEST_LINE.saturating_add(1);
        (&mut reader)
            .take(most)
            .read_until(b'\n', &mut body)
            .await
            .map_err(|e| Trouble::Local { what: e.to_string() })?;
        if body.is_empty() {
            return Ok(None);
        }
        if body.last() == Some(&b'\n') {
            body.pop();
        } else if u64::try_from(body.len()).is_ok_and(|length| length == most) {
            return Err(Trouble::BadInput { what: format!("longer than {LONGEST_LINE} bytes") });
        }
        Ok(Some((Line { number, body: Bytes::from(body) }, (reader, number))))
    })
}

/// The lines of a file; `-` is standard input.
///
/// # Errors
/// [`Trouble::BadInput`] where it cannot be opened.
pub async fn open(path: &Path) -> Result<impl Stream<Item = Result<Line, Trouble>>, Trouble> {
    const BUFFER: usize = 256 * 1024;
    let reader: Box<dyn tokio::io::AsyncRead + Send + Unpin> = if path == Path::new("-") {
        Box::new(tokio::io::stdin())
    } else {
        let unusable = |e: std::io::Error| Trouble::BadInput { what: format!("{}: {e}", path.display()) };
        Box::new(tokio::fs::File::open(path).await.map_err(unusable)?)
    };
    Ok(lines(BufReader::with_capacity(BUFFER, reader)))
}

/// Bodies that are in memory or made one by one.
pub fn from_memory(bodies: impl IntoIterator<Item = Bytes>) -> impl Stream<Item = Result<Line, Trouble>> {
    stream::iter((1_u64..).zip(bodies).map(|(number, body)| Ok(Line { number, body })))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    async fn read(text: &[u8]) -> Vec<Result<Line, Trouble>> {
        lines(text).collect().await
    }

    #[tokio::test]
    async fn bodies_are_the_bytes_between_newlines() {
        let got = read(b"a\n\n\xff\r\n last").await;
        let bodies: Vec<_> = got.iter().map(|line| line.as_ref().map(|l| (l.number, l.body.to_vec()))).collect();
        let want = [(1, b"a".to_vec()), (2, vec![]), (3, b"\xff\r".to_vec()), (4, b" last".to_vec())];
        assert_eq!(bodies, want.into_iter().map(Ok).collect::<Vec<_>>());
        assert!(read(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_line_beyond_the_bound_is_named_and_not_kept() {
        let longest = usize::try_from(LONGEST_LINE).expect("small");
        let mut text = vec![b'x'; longest];
        text.push(b'\n');
        assert!(read(&text).await.iter().all(Result::is_ok));
        text.insert(0, b'x');
        assert!(matches!(read(&text).await.as_slice(), [Err(Trouble::BadInput { .. })]));
    }
}
