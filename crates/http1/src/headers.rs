//! Header fields of one message: one byte arena and a list of spans into it.
//!
//! - Rule: names are lower case (as Envoy writes them on the wire), order is kept, repeated fields stay separate.
//! - Limits: the arena only grows while a message lives and is reused for the next one.
//! - Not here: parsing (`request`, `response`), writing (`write`).

use crate::Known;

/// A byte range inside the arena. At most 4 GiB, far above any head limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub(crate) fn new(start: usize, len: usize) -> Self {
        Self { start: u32::try_from(start).unwrap_or(u32::MAX), len: u32::try_from(len).unwrap_or(0) }
    }

    fn of(self, arena: &[u8]) -> &[u8] {
        let start = self.start as usize;
        arena.get(start..start + self.len as usize).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: Span,
    value: Span,
    known: Known,
}

/// The fields of one message, in order. Reusable: [`Headers::clear`] keeps the memory.
#[derive(Debug, Default, Clone)]
pub struct Headers {
    arena: Vec<u8>,
    entries: Vec<Entry>,
}

impl Headers {
    /// Forgets all fields, keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
    }

    /// Number of fields present.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.iter().filter(|entry| entry.known != Known::Removed).count()
    }

    /// True when no field is present.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held, for buffer accounting.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.arena.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Size of all fields as HTTP/1 writes them (name, `: `, value, CR LF).
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len() + 4).sum()
    }

    /// Keeps `bytes` in the arena and says where.
    pub fn keep(&mut self, bytes: &[u8]) -> Span {
        let span = Span::new(self.arena.len(), bytes.len());
        self.arena.extend_from_slice(bytes);
        span
    }

    /// The bytes of a span made by [`Headers::keep`].
    #[must_use]
    pub fn bytes(&self, span: Span) -> &[u8] {
        span.of(&self.arena)
    }

    /// Adds a field whose name and value already lie in the arena; the name is made lower case in place.
    pub(crate) fn push_spans(&mut self, name: Span, value: Span) -> Known {
        let start = name.start as usize;
        if let Some(bytes) = self.arena.get_mut(start..start + name.len as usize) {
            bytes.make_ascii_lowercase();
        }
        let known = Known::of(name.of(&self.arena));
        self.entries.push(Entry { name, value, known });
        known
    }

    /// Adds a field at the end. The name is stored in lower case.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        let name = self.keep(name);
        let value = self.keep(value);
        self.push_spans(name, value);
    }

    /// Adds a field whose value is made of parts.
    pub fn append_parts(&mut self, name: &[u8], parts: &[&[u8]]) {
        let name = self.keep(name);
        let start = self.arena.len();
        for part in parts {
            self.arena.extend_from_slice(part);
        }
        let value = Span::new(start, self.arena.len() - start);
        self.push_spans(name, value);
    }

    /// Sets a field to one value: replaces the first, takes out the others, or appends. `name` is lower case.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let known = Known::of(name);
        let value = self.keep(value);
        let mut found = false;
        for entry in &mut self.entries {
            if entry.known != known || (matches!(known, Known::Other | Known::XEnvoy) && entry.name.of(&self.arena) != name) {
                continue;
            }
            if found {
                entry.known = Known::Removed;
            } else {
                entry.value = value;
                found = true;
            }
        }
        if !found {
            let name = self.keep(name);
            self.push_spans(name, value);
        }
    }

    /// Takes out all fields of this name (lower case). True when there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let known = Known::of(name);
        let mut found = false;
        for entry in &mut self.entries {
            if entry.known == known && (!matches!(known, Known::Other | Known::XEnvoy) || entry.name.of(&self.arena) == name) {
                entry.known = Known::Removed;
                found = true;
            }
        }
        found
    }

    /// Takes out all fields of a known name. True when there was one.
    pub fn remove_known(&mut self, known: Known) -> bool {
        let mut found = false;
        for entry in self.entries.iter_mut().filter(|entry| entry.known == known) {
            entry.known = Known::Removed;
            found = true;
        }
        found
    }

    /// Takes out every field for which `drop` says true.
    pub fn remove_if(&mut self, mut drop: impl FnMut(&[u8], &[u8], Known) -> bool) {
        for entry in &mut self.entries {
            if entry.known != Known::Removed && drop(entry.name.of(&self.arena), entry.value.of(&self.arena), entry.known) {
                entry.known = Known::Removed;
            }
        }
    }

    /// First value of a field; `name` is lower case.
    #[must_use]
    pub fn get<'a>(&'a self, name: &[u8]) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// All values of a field in order; `name` is lower case.
    pub fn get_all<'a, 'n>(&'a self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let known = Known::of(name);
        let by_name = matches!(known, Known::Other | Known::XEnvoy);
        self.entries
            .iter()
            .filter(move |entry| entry.known == known && (!by_name || entry.name.of(&self.arena) == name))
            .map(|entry| entry.value.of(&self.arena))
    }

    /// First value of a known field.
    #[must_use]
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.entries.iter().find(|entry| entry.known == known).map(|entry| entry.value.of(&self.arena))
    }

    /// Where the first value of a known field lies, and how many such fields there are.
    pub(crate) fn known_span(&self, known: Known) -> (Option<Span>, usize) {
        let mut spans = self.entries.iter().filter(|entry| entry.known == known).map(|entry| entry.value);
        (spans.next(), spans.count())
    }

    /// All fields present, in order: name in lower case, value as received.
    #[must_use]
    pub fn iter(&self) -> HeaderIter<'_> {
        HeaderIter { headers: self, at: 0 }
    }

    /// As [`Headers::iter`], with the classified name.
    pub fn iter_known(&self) -> impl Iterator<Item = (&[u8], &[u8], Known)> {
        self.entries
            .iter()
            .filter(|entry| entry.known != Known::Removed)
            .map(|entry| (entry.name.of(&self.arena), entry.value.of(&self.arena), entry.known))
    }
}

/// Iterator over the fields present.
pub struct HeaderIter<'a> {
    headers: &'a Headers,
    at: usize,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = self.headers.entries.get(self.at)?;
            self.at += 1;
            if entry.known != Known::Removed {
                return Some((entry.name.of(&self.headers.arena), entry.value.of(&self.headers.arena)));
            }
        }
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Headers {
        let mut headers = Headers::default();
        headers.append(b"Host", b"a");
        headers.append(b"X-One", b"1");
        headers.append(b"x-one", b"2");
        headers
    }

    #[test]
    fn names_are_lower_case_and_repeats_stay_apart() {
        let headers = sample();
        assert_eq!(headers.get_all(b"x-one").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(headers.known(Known::Host), Some(&b"a"[..]));
    }

    #[test]
    fn set_replaces_in_place_and_drops_the_rest() {
        let mut headers = sample();
        headers.set(b"x-one", b"new");
        headers.set(b"x-two", b"2");
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [(&b"host"[..], &b"a"[..]), (b"x-one", b"new"), (b"x-two", b"2")]);
    }

    #[test]
    fn removed_fields_are_invisible() {
        let mut headers = sample();
        assert!(headers.remove(b"x-one"));
        assert!(!headers.remove(b"x-one"));
        assert!(headers.remove_known(Known::Host));
        assert!(headers.is_empty());
        assert_eq!(headers.get(b"host"), None);
    }

    #[test]
    fn x_envoy_names_are_told_apart() {
        let mut headers = Headers::default();
        headers.append(b"x-envoy-a", b"1");
        headers.append(b"x-envoy-b", b"2");
        headers.set(b"x-envoy-b", b"3");
        assert_eq!(headers.get(b"x-envoy-a"), Some(&b"1"[..]));
        assert_eq!(headers.get(b"x-envoy-b"), Some(&b"3"[..]));
        headers.remove(b"x-envoy-a");
        assert_eq!(headers.len(), 1);
    }
}
