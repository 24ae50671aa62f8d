//! The body of a request: JSON in which a string may name fields of the payment. Read and checked once.
//!
//! `"{amount.value}"` is replaced by the field, in its own type: a string, or a number for `{amount.minor}` (a string
//! with `{amount.minor:string}`). `"ref {payment_id}"` puts fields into a text. A field that may be absent is written
//! with `?`, as in `"{end_to_end_id?}"`: where it is absent, the member, the element, or an object that has nothing
//! else, is left out. `{{` and `}}` stand for the braces themselves. Amounts are never written as decimal numbers.

use serde_json::{Map, Number, Value};

use super::fields::{FIELDS, Field, Kind, Source};

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not JSON.
    #[error("is not JSON (line {line})")]
    NotJson {
        /// Counted from 1.
        line: usize,
    },
    /// Something else than an object.
    #[error("must be a JSON object")]
    NotObject,
    /// A brace that opens or closes nothing.
    #[error("has a brace without its other half; a brace itself is written twice")]
    Brace,
    /// A placeholder that names no field.
    #[error("names {{{0}}}, which is no field of a payment")]
    Unknown(String),
    /// A field that may be absent, without the mark that says so.
    #[error("names {{{0}}}, which may be absent: write {{{0}?}}, and it is left out then")]
    Unmarked(&'static str),
    /// A form that the field does not have.
    #[error("wants {{{0}}} in a form that the field does not have")]
    Form(&'static str),
}

/// A request body with its placeholders.
#[derive(Clone)]
pub struct Template(Node);

#[derive(Clone)]
enum Node {
    Fixed(Value),
    /// One field alone, in its own type.
    Slot {
        field: &'static Field,
        as_text: bool,
    },
    /// A text with fields in it.
    Text(Vec<Part>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

#[derive(Clone)]
enum Part {
    Text(String),
    Field(&'static Field),
}

/// The payment as contract v1 has it, for rails of one's own and for the stand-in.
const BUILT_IN: &str = r#"{
  "id": "{key}", "payment_id": "{payment_id}", "scheme": "{scheme}",
  "amount": {"currency": "{amount.currency}", "value": "{amount.value}"},
  "debtor": {"name": "{debtor.name?}", "lei": "{debtor.lei?}", "address": {"street": "{debtor.address.street?}",
    "building": "{debtor.address.building?}", "post_code": "{debtor.address.post_code?}",
    "town": "{debtor.address.town?}", "country": "{debtor.address.country?}"}},
  "creditor": {"name": "{creditor.name?}", "lei": "{creditor.lei?}", "address": {"street": "{creditor.address.street?}",
    "building": "{creditor.address.building?}", "post_code": "{creditor.address.post_code?}",
    "town": "{creditor.address.town?}", "country": "{creditor.address.country?}"}},
  "debtor_account": {"iban": "{debtor_account.iban?}",
    "other": {"id": "{debtor_account.other.id?}", "scheme": "{debtor_account.other.scheme?}"}},
  "creditor_account": {"iban": "{creditor_account.iban?}",
    "other": {"id": "{creditor_account.other.id?}", "scheme": "{creditor_account.other.scheme?}"}},
  "debtor_agent": {"bic": "{debtor_agent.bic?}",
    "clearing": {"system": "{debtor_agent.clearing.system?}", "member": "{debtor_agent.clearing.member?}"}},
  "creditor_agent": {"bic": "{creditor_agent.bic?}",
    "clearing": {"system": "{creditor_agent.clearing.system?}", "member": "{creditor_agent.clearing.member?}"}},
  "end_to_end_id": "{end_to_end_id?}", "instruction_id": "{instruction_id?}", "uetr": "{uetr?}",
  "charge_bearer": "{charge_bearer?}", "requested_execution_date": "{requested_execution_date?}",
  "category_purpose": "{category_purpose?}", "purpose": "{purpose?}",
  "remittance": {"unstructured": "{remittance.unstructured?}",
    "structured": {"reference": "{remittance.structured.reference?}"}}
}"#;

impl Template {
    /// The most that a template may have, in bytes.
    pub const LARGEST: usize = 64 * 1024;

    /// Reads a template.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let value: Value = serde_json::from_str(text).map_err(|error| TemplateError::NotJson { line: error.line() })?;
        if !value.is_object() {
            return Err(TemplateError::NotObject);
        }
        node(value).map(Self)
    }

    /// The payment as contract v1 has it, with the rail key as `id`.
    ///
    /// # Errors
    /// None: it is tested. The type says so because nothing here panics.
    pub fn built_in() -> Result<Self, TemplateError> {
        Self::parse(BUILT_IN)
    }

    /// Every field, written as it may stand in a template.
    #[must_use]
    pub fn fields() -> Vec<String> {
        FIELDS.iter().map(|field| format!("{{{}{}}}", field.name, if field.optional { "?" } else { "" })).collect()
    }

    /// The body for one payment: the same bytes for the same payment and key.
    pub(super) fn render(&self, source: Source<'_>) -> Vec<u8> {
        let body = value(&self.0, source).unwrap_or_else(|| Value::Object(Map::new()));
        body.to_string().into_bytes()
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template(..)")
    }
}

fn node(value: Value) -> Result<Node, TemplateError> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(Node::Fixed(value)),
        Value::String(text) => string(&text),
        Value::Array(items) => items.into_iter().map(node).collect::<Result<_, _>>().map(Node::List),
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| Ok((name, node(value)?)));
            members.collect::<Result<_, _>>().map(Node::Object)
        }
    }
}

fn string(text: &str) -> Result<Node, TemplateError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut alone = None;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        literal.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            literal.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            literal.push('}');
            rest = after;
        } else {
            let inner = from.strip_prefix('{').ok_or(TemplateError::Brace)?;
            let (named, after) = inner.split_once('}').ok_or(TemplateError::Brace)?;
            let (field, as_text) = field(named)?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(field));
            alone = Some((field, as_text));
            rest = after;
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(match (parts.as_slice(), alone) {
        ([Part::Field(_)], Some((field, as_text))) => Node::Slot { field, as_text },
        ([Part::Text(fixed)], _) => Node::Fixed(Value::String(fixed.clone())),
        ([], _) => Node::Fixed(Value::String(String::new())),
        _ => Node::Text(parts),
    })
}

/// `amount.minor`, `amount.minor:string`, `uetr?`, `uetr?:string`.
fn field(named: &str) -> Result<(&'static Field, bool), TemplateError> {
    let (name, form) = named.split_once(':').map_or((named, None), |(name, form)| (name, Some(form)));
    let (name, marked) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
    let field = FIELDS.iter().find(|field| field.name == name);
    let field = field.ok_or_else(|| TemplateError::Unknown(name.chars().take(64).collect()))?;
    if field.optional && !marked {
        return Err(TemplateError::Unmarked(field.name));
    }
    match (form, field.kind) {
        (None, kind) => Ok((field, kind == Kind::Text)),
        (Some("string"), Kind::Text | Kind::Whole) => Ok((field, true)),
        (Some("number"), Kind::Whole) => Ok((field, false)),
        (Some(_), _) => Err(TemplateError::Form(field.name)),
    }
}

/// `None` where everything that would be in it is absent.
fn value(node: &Node, source: Source<'_>) -> Option<Value> {
    match node {
        Node::Fixed(value) => Some(value.clone()),
        Node::Slot { field, as_text } => {
            let text = (field.of)(source)?;
            if *as_text {
                return Some(Value::String(text.into_owned()));
            }
            text.parse::<i64>().ok().map(|number| Value::Number(Number::from(number)))
        }
        Node::Text(parts) => {
            let mut text = String::new();
            for part in parts {
                match part {
                    Part::Text(fixed) => text.push_str(fixed),
                    Part::Field(field) => text.push_str(&(field.of)(source)?),
                }
            }
            Some(Value::String(text))
        }
        Node::List(items) => {
            let left: Vec<Value> = items.iter().filter_map(|item| value(item, source)).collect();
            (items.is_empty() || !left.is_empty()).then_some(Value::Array(left))
        }
        Node::Object(members) => {
            let left: Map<String, Value> =
                members.iter().filter_map(|(name, node)| Some((name.clone(), value(node, source)?))).collect();
            (members.is_empty() || !left.is_empty()).then_some(Value::Object(left))
        }
    }
}
