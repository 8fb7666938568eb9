//! Reading JSON whose form nobody promised: typed fields of objects, and every wrong one named by its path.
//!
//! Never panics and never stops at the first problem.

use serde_json::{Map, Value};

use crate::routing::admit::Problems;

/// Characters of a caller's text that a problem may quote.
const SHOWN_CHARS_MAX: usize = 40;

/// One value of a request and where it stands.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    pub value: &'a Value,
    pub path: String,
}

impl<'a> Field<'a> {
    /// Returns the value as an object; what is none is a problem.
    pub fn object(&self, problems: &mut Problems) -> Option<Object<'a>> {
        match self.value {
            Value::Object(map) => Some(Object { map, path: self.path.clone() }),
            other => {
                problems.add(&*self.path, format!("is {}, not an object", kind(other)));
                None
            }
        }
    }

    /// Returns the value as text; what is none is a problem.
    pub fn text(&self, problems: &mut Problems) -> Option<&'a str> {
        match self.value {
            Value::String(text) => Some(text),
            other => {
                problems.add(&*self.path, format!("is {}, not a string", kind(other)));
                None
            }
        }
    }

    /// Returns the elements of the value; what is no list, or a longer one than `most`, is a problem.
    pub fn elements(&self, most: usize, problems: &mut Problems) -> Vec<Field<'a>> {
        match self.value {
            Value::Array(values) if values.len() > most => {
                problems.add(&*self.path, format!("{} elements, at most {most}", values.len()));
                Vec::new()
            }
            Value::Array(values) => values
                .iter()
                .enumerate()
                .map(|(at, value)| Field { value, path: format!("{}[{at}]", self.path) })
                .collect(),
            other => {
                problems.add(&*self.path, format!("is {}, not a list", kind(other)));
                Vec::new()
            }
        }
    }
}

/// An object of a request and where it stands; the path of the request itself is empty.
#[derive(Debug, Clone)]
pub struct Object<'a> {
    pub map: &'a Map<String, Value>,
    pub path: String,
}

impl<'a> Object<'a> {
    /// Returns the path of the field of this name.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Returns the field of this name; null counts as absent.
    pub fn field(&self, name: &str) -> Option<Field<'a>> {
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(Field { value, path: self.path_of(name) })
    }

    /// Returns the field of this name; its absence is a problem.
    pub fn required(&self, name: &str, problems: &mut Problems) -> Option<Field<'a>> {
        let found = self.field(name);
        if found.is_none() {
            problems.add(self.path_of(name), "is missing");
        }
        found
    }

    /// Returns a text, `None` when it is absent or none.
    pub fn text(&self, name: &str, problems: &mut Problems) -> Option<&'a str> {
        self.field(name)?.text(problems)
    }

    /// Returns a text; its absence is a problem.
    pub fn required_text(&self, name: &str, problems: &mut Problems) -> Option<&'a str> {
        self.required(name, problems)?.text(problems)
    }

    /// Returns an object, `None` when it is absent or none.
    pub fn object(&self, name: &str, problems: &mut Problems) -> Option<Object<'a>> {
        self.field(name)?.object(problems)
    }

    /// Returns the elements of a list, none when it is absent or none.
    pub fn elements(&self, name: &str, most: usize, problems: &mut Problems) -> Vec<Field<'a>> {
        self.field(name).map_or_else(Vec::new, |field| field.elements(most, problems))
    }

    /// Returns a list of texts, without those that are none.
    pub fn texts(&self, name: &str, most: usize, problems: &mut Problems) -> Vec<&'a str> {
        let elements = self.elements(name, most, problems);
        elements.into_iter().filter_map(|element| element.text(problems)).collect()
    }

    /// Returns true or false, `None` when it is absent or neither.
    pub fn flag(&self, name: &str, problems: &mut Problems) -> Option<bool> {
        let field = self.field(name)?;
        let flag = field.value.as_bool();
        if flag.is_none() {
            problems.add(field.path, format!("is {}, not true or false", kind(field.value)));
        }
        flag
    }

    /// Returns a number, `None` when it is absent or none.
    pub fn number(&self, name: &str, problems: &mut Problems) -> Option<f64> {
        let field = self.field(name)?;
        let number = field.value.as_f64();
        if number.is_none() {
            problems.add(field.path, format!("is {}, not a number", kind(field.value)));
        }
        number
    }

    /// Returns a whole number, `None` when it is absent or none.
    pub fn whole(&self, name: &str, problems: &mut Problems) -> Option<i64> {
        let field = self.field(name)?;
        let number = field.value.as_i64();
        if number.is_none() {
            problems.add(field.path, "is not a whole number");
        }
        number
    }
}

/// Returns a caller's text as a problem may quote it.
pub fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
