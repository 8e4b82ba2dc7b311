//! Parameters behind a semicolon: of header fields and of URIs (RFC 3261 §25.1 `generic-param`, `uri-parameters`).

use crate::text::{self, TOKEN};

/// Most parameters of one value. More are refused as malformed: comparing two lists costs their product.
pub(crate) const MAX_PARAMS: usize = 64;

/// A run of `;name=value`, read when asked. Copy; holds only the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a> {
    /// From the first `;` to the end; empty when there are none.
    text: &'a [u8],
}

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// The name as received; compare with [`crate::eq_ignore_case`].
    pub name: &'a [u8],
    /// The value: none without `=`; of a quoted string what is between the quotes, escapes kept.
    pub value: Option<&'a [u8]>,
    /// The whole parameter from its `;` (included) to the end of its value.
    pub text: &'a [u8],
}

impl<'a> Params<'a> {
    /// The parameters in `text`, which is empty or begins with `;`.
    pub fn new(text: &'a [u8]) -> Params<'a> {
        Params { text }
    }

    /// The bytes, first `;` included.
    pub fn text(self) -> &'a [u8] {
        self.text
    }

    /// The first parameter of that name (case-insensitive): none if absent, `Some(None)` if it has no value.
    pub fn get(self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.find(name).map(|param| param.value)
    }

    /// The first parameter of that name, whole.
    pub fn find(self, name: &[u8]) -> Option<Param<'a>> {
        self.into_iter().find(|param| crate::eq_ignore_case(param.name, name))
    }

    /// Whether a parameter of that name is there, with or without value.
    pub fn has(self, name: &[u8]) -> bool {
        self.find(name).is_some()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.into_iter().next().is_none()
    }
}

/// Iterator over [`Params`]. Ends early where the grammar breaks, which values that were parsed rule out.
#[derive(Clone, Debug)]
pub struct ParamsIter<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> IntoIterator for Params<'a> {
    type Item = Param<'a>;
    type IntoIter = ParamsIter<'a>;

    fn into_iter(self) -> ParamsIter<'a> {
        ParamsIter { text: self.text, at: 0 }
    }
}

impl<'a> Iterator for ParamsIter<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        loop {
            match take(self.text, self.at) {
                Ok(Some((param, end))) => {
                    self.at = end;
                    return Some(param);
                }
                // An empty one, which URIs may have: on to the next.
                Err(offset) if offset < self.text.len() && self.text[offset] == b';' => self.at = offset,
                Ok(None) | Err(_) => {
                    self.at = self.text.len();
                    return None;
                }
            }
        }
    }
}

/// Takes the parameter that begins at `at`, where a `;` with optional white space must stand: the parameter and what
/// follows it. None at the end of the text; the offset of what breaks the grammar otherwise.
#[inline]
pub(crate) fn take(text: &[u8], at: usize) -> Result<Option<(Param<'_>, usize)>, usize> {
    let semicolon = text::skip_lws(text, at);
    if semicolon == text.len() {
        return Ok(None);
    }
    if text[semicolon] != b';' {
        return Err(semicolon);
    }
    let name_start = text::skip_lws(text, semicolon + 1);
    let name_end = text::skip(text, name_start, TOKEN);
    if name_end == name_start {
        return Err(name_start);
    }
    let name = &text[name_start..name_end];
    let mut equal = name_end;
    if text.get(equal).is_some_and(|byte| text::is(*byte, text::LWS)) {
        equal = text::skip_lws(text, equal);
    }
    if text.get(equal) != Some(&b'=') {
        return Ok(Some((
            Param {
                name,
                value: None,
                text: &text[semicolon..name_end],
            },
            name_end,
        )));
    }
    let value_start = text::skip_lws(text, equal + 1);
    let (value, end) = if text.get(value_start) == Some(&b'"') {
        let end = text::skip_quoted(text, value_start).ok_or(value_start)?;
        (&text[value_start + 1..end - 1], end)
    } else {
        let end = text::param_end(text, value_start);
        (&text[value_start..end], end)
    };
    Ok(Some((
        Param {
            name,
            value: Some(value),
            text: &text[semicolon..end],
        },
        end,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<(String, Option<String>)> {
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Params::new(text.as_bytes())
            .into_iter()
            .map(|param| (string(param.name), param.value.map(string)))
            .collect()
    }

    #[test]
    fn names_values_quotes_and_white_space() {
        let found = list(" ;\r\n a = 1 ; b;c=\"x;y=\\\"z\\\"\" ;d=[2001:db8::1]");
        let expected = [
            ("a", Some("1")),
            ("b", None),
            ("c", Some("x;y=\\\"z\\\"")),
            ("d", Some("[2001:db8::1]")),
        ];
        assert_eq!(
            found,
            expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
        );
    }

    #[test]
    fn the_first_of_a_name_counts_in_any_case() {
        let params = Params::new(b";Tag=1;tag=2;LR");
        assert_eq!(params.get(b"tag"), Some(Some(&b"1"[..])));
        assert_eq!(params.get(b"lr"), Some(None));
        assert_eq!(params.get(b"x"), None);
        assert_eq!(params.find(b"lr").map(|param| param.text), Some(&b";LR"[..]));
        assert!(Params::default().is_empty() && !params.is_empty());
    }

    #[test]
    fn empty_parameters_are_passed_over_and_broken_ones_end_the_list() {
        assert_eq!(list(";;a;;b;").len(), 2);
        assert_eq!(list(";a=\"open;b").len(), 0);
        assert_eq!(list(";a b;c").len(), 1);
        assert!(take(b";;a", 0).is_err());
    }
}
