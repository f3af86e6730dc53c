//! How the values of columns become rows: the schema as a tree, read by the definition and repetition levels of
//! "Dremel" (Melnik et al., 2010).

use super::super::columns::{Columns, Row};
use super::cells::{Cells, Kind};
use parquet::basic::{ConvertedType, Repetition};
use parquet::schema::types::{SchemaDescriptor, Type};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value};

/// How deep columns may lie within each other.
const DEEPEST: usize = 32;

/// A column of values.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// Its place among all columns of values.
    pub(super) index: usize,
    /// Its name, and before it those of the columns that it is in.
    pub(super) path: String,
    /// What its values are.
    pub(super) kind: Kind,
    /// The definition level of a value that is there.
    pub(super) max_def: i16,
    /// Its largest repetition level.
    pub(super) max_rep: i16,
}

/// The wanted columns.
#[derive(Debug)]
pub(super) struct Layout {
    fields: Vec<(String, Node)>,
    leaves: Vec<Leaf>,
}

/// A column; `leaves` are the places of its columns of values among those of the layout.
#[derive(Debug)]
struct Node {
    /// The definition level from which on it is there.
    def: i16,
    leaves: std::ops::Range<usize>,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Value,
    Group(Vec<(String, Node)>),
    /// Its elements have this repetition level, except the first.
    List(Box<Node>, i16),
}

/// The levels and the place in the schema where a column is.
#[derive(Debug, Clone)]
struct Place {
    path: String,
    def: i16,
    rep: i16,
    depth: usize,
}

impl Place {
    fn inside(&self, name: &str) -> Self {
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        Self {
            path,
            depth: self.depth + 1,
            ..self.clone()
        }
    }

    fn found(&self, what: &str) -> String {
        format!(
            "column `{}`: found {what}; expected text, numbers, truth values, or lists and structs of them",
            self.path
        )
    }
}

/// The names of all columns that are not in lists, those within others with the names of these before them.
pub(super) fn names(schema: &SchemaDescriptor) -> Vec<String> {
    fn add(fields: &Type, place: &Place, names: &mut Vec<String>) {
        for field in fields.get_fields() {
            let place = place.inside(field.name());
            names.push(place.path.clone());
            let is_struct = field.is_group() && !is_annotated(field) && !is_repeated(field);
            if is_struct && place.depth < DEEPEST {
                add(field, &place, names);
            }
        }
    }
    let mut names = Vec::new();
    add(schema.root_schema(), &root(), &mut names);
    names
}

fn root() -> Place {
    Place {
        path: String::new(),
        def: 0,
        rep: 0,
        depth: 0,
    }
}

fn is_annotated(field: &Type) -> bool {
    field.get_basic_info().converted_type() != ConvertedType::NONE
}

fn is_repeated(field: &Type) -> bool {
    repetition(field) == Some(Repetition::REPEATED)
}

fn repetition(field: &Type) -> Option<Repetition> {
    let info = field.get_basic_info();
    info.has_repetition().then(|| info.repetition())
}

impl Layout {
    pub(super) fn new(schema: &SchemaDescriptor, columns: &Columns) -> Result<Self, String> {
        let mut builder = Builder {
            columns,
            schema,
            next: 0,
            leaves: Vec::new(),
        };
        let fields = builder.fields(schema.root_schema(), &root(), false)?;
        Ok(Self {
            fields,
            leaves: builder.leaves,
        })
    }

    /// The columns of values.
    pub(super) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The next row; `cells` are those of the leaves.
    pub(super) fn row(&self, cells: &mut [Cells]) -> Result<Row, String> {
        let mut row = Row::new();
        for (name, node) in &self.fields {
            let value = node.read(cells)?;
            let value = to_raw_value(&value).map_err(|e| e.to_string())?;
            row.insert(name.clone(), value);
        }
        Ok(row)
    }
}

impl Node {
    fn read(&self, cells: &mut [Cells]) -> Result<Value, String> {
        let first = &mut cells[self.leaves.start];
        match &self.shape {
            Shape::Value => first.take(),
            _ if first.definition()? < self.def => self.skip(cells).map(|()| Value::Null),
            Shape::Group(fields) => {
                let mut object = Map::new();
                for (name, field) in fields {
                    object.insert(name.clone(), field.read(cells)?);
                }
                Ok(object.into())
            }
            Shape::List(..) if first.definition()? == self.def => {
                self.skip(cells).map(|()| Value::Array(Vec::new()))
            }
            Shape::List(element, rep) => {
                let mut list = vec![element.read(cells)?];
                while cells[self.leaves.start].repetition() == Some(*rep) {
                    list.push(element.read(cells)?);
                }
                Ok(list.into())
            }
        }
    }

    /// Passes over a value that is not there: every column within has one entry for it.
    fn skip(&self, cells: &mut [Cells]) -> Result<(), String> {
        for cell in &mut cells[self.leaves.clone()] {
            cell.take()?;
        }
        Ok(())
    }
}

struct Builder<'a> {
    columns: &'a Columns,
    schema: &'a SchemaDescriptor,
    /// The number of columns of values before the next one.
    next: usize,
    leaves: Vec<Leaf>,
}

impl Builder<'_> {
    /// The wanted ones of a group's fields, all of them within a list.
    fn fields(
        &mut self,
        group: &Type,
        place: &Place,
        all: bool,
    ) -> Result<Vec<(String, Node)>, String> {
        let mut fields = Vec::new();
        for field in group.get_fields() {
            let place = place.inside(field.name());
            if !all && !self.columns.is_wanted(&place.path) {
                self.next += n_leaves(field);
                continue;
            }
            if let Some(node) = self.node(field, place, all)? {
                fields.push((field.name().to_owned(), node));
            }
        }
        Ok(fields)
    }

    /// A field as its own repetition says. Nothing for a group without columns of values.
    fn node(&mut self, field: &Type, mut place: Place, all: bool) -> Result<Option<Node>, String> {
        match repetition(field) {
            Some(Repetition::REQUIRED) => {}
            Some(Repetition::OPTIONAL) => place.def += 1,
            // A list that nothing says is one.
            Some(Repetition::REPEATED) => {
                let list = place.def;
                place.def += 1;
                place.rep += 1;
                let rep = place.rep;
                let element = self.content(field, place, true)?;
                return Ok(element.map(|element| list_of(element, list, rep)));
            }
            None => return Err(place.found("a column of no repetition")),
        }
        self.content(field, place, all)
    }

    /// What is in a field, whose repetition is already part of the levels.
    fn content(&mut self, field: &Type, place: Place, all: bool) -> Result<Option<Node>, String> {
        if place.depth > DEEPEST {
            return Err(place.found("columns in columns in columns"));
        }
        if field.is_primitive() {
            return self.leaf(field, place).map(Some);
        }
        let converted = field.get_basic_info().converted_type();
        match converted {
            ConvertedType::LIST => self.list(field, place),
            ConvertedType::NONE => {
                let start = self.leaves.len();
                let fields = self.fields(field, &place, all)?;
                let leaves = start..self.leaves.len();
                Ok((!leaves.is_empty()).then_some(Node {
                    def: place.def,
                    leaves,
                    shape: Shape::Group(fields),
                }))
            }
            other => Err(place.found(&format!("a column of kind {other}"))),
        }
    }

    /// A list as the format's rules have it, with those for older writers.
    fn list(&mut self, field: &Type, place: Place) -> Result<Option<Node>, String> {
        let [repeated] = field.get_fields() else {
            return Err(place.found("a list of several columns"));
        };
        if !is_repeated(repeated) {
            return Err(place.found("a list that does not repeat"));
        }
        let list = place.def;
        let mut inner = place.inside(repeated.name());
        // Messages name the list.
        inner.path = place.path;
        inner.def += 1;
        inner.rep += 1;
        let rep = inner.rep;
        let name = repeated.name();
        let is_element = repeated.is_primitive()
            || repeated.get_fields().len() != 1
            || is_annotated(repeated)
            || name == "array"
            || name == format!("{}_tuple", field.name());
        let element = if is_element {
            self.content(repeated, inner, true)?
        } else {
            self.node(&repeated.get_fields()[0].clone(), inner, true)?
        };
        Ok(element.map(|element| list_of(element, list, rep)))
    }

    fn leaf(&mut self, field: &Type, place: Place) -> Result<Node, String> {
        let kind = Kind::of(field).map_err(|what| place.found(&what))?;
        let index = self.next;
        self.next += 1;
        let column = self.schema.columns().get(index);
        let is_same = column.is_some_and(|column| {
            (column.max_def_level(), column.max_rep_level()) == (place.def, place.rep)
        });
        if !is_same {
            return Err(place.found("a column of other levels"));
        }
        let start = self.leaves.len();
        self.leaves.push(Leaf {
            index,
            path: place.path,
            kind,
            max_def: place.def,
            max_rep: place.rep,
        });
        Ok(Node {
            def: place.def,
            leaves: start..start + 1,
            shape: Shape::Value,
        })
    }
}

fn list_of(element: Node, def: i16, rep: i16) -> Node {
    Node {
        def,
        leaves: element.leaves.clone(),
        shape: Shape::List(Box::new(element), rep),
    }
}

fn n_leaves(field: &Type) -> usize {
    if field.is_primitive() {
        return 1;
    }
    let fields = field.get_fields().iter();
    fields.map(|field| n_leaves(field)).sum()
}
