//! Parameters behind a semicolon: of header fields and of URIs (RFC 3261 §25.1 `generic-param`, `uri-parameters`).

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
        self.into_iter().find(|param| crate::eq_ignore_case(param.name, name)).map(|param| param.value)
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

/// Iterator over [`Params`].
#[derive(Clone, Debug)]
pub struct ParamsIter<'a> {
    rest: &'a [u8],
}

impl<'a> IntoIterator for Params<'a> {
    type Item = Param<'a>;
    type IntoIter = ParamsIter<'a>;

    fn into_iter(self) -> ParamsIter<'a> {
        ParamsIter { rest: self.text }
    }
}

impl<'a> Iterator for ParamsIter<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        let _ = self.rest;
        unimplemented!()
    }
}
