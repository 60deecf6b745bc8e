//! Policies as they are written down.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sluice_planner::statement::PolicyKind;

/// A table by the three parts of its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableName(pub [String; 3]);

impl TableName {
    /// A table of a schema of a catalog.
    pub fn new(catalog: impl Into<String>, schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self([catalog.into(), schema.into(), table.into()])
    }

    /// Whether it is this table, or in this schema or catalog.
    pub fn is_in(&self, catalog: &str, schema: Option<&str>, table: Option<&str>) -> bool {
        let [own_catalog, own_schema, own_table] = &self.0;
        own_catalog == catalog
            && schema.is_none_or(|name| name == own_schema)
            && table.is_none_or(|name| name == own_table)
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// What a policy does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Lets rows through.
    Permissive,
    /// Holds back rows that it does not let through.
    Restrictive,
    /// Stands for the values of this column.
    Mask(String),
}

impl Effect {
    /// As `system.policies` has it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Permissive => "permissive",
            Self::Restrictive => "restrictive",
            Self::Mask(_) => "mask",
        }
    }

    /// The column whose values it replaces.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Mask(column) => Some(column),
            Self::Permissive | Self::Restrictive => None,
        }
    }
}

impl From<&PolicyKind> for Effect {
    fn from(kind: &PolicyKind) -> Self {
        match kind {
            PolicyKind::Permissive => Self::Permissive,
            PolicyKind::Restrictive => Self::Restrictive,
            PolicyKind::Mask { column } => Self::Mask(column.clone()),
        }
    }
}

/// A policy or mask of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name; masks and policies of a table have names of their own.
    pub name: String,
    /// Its table.
    pub table: TableName,
    /// What it does.
    pub effect: Effect,
    /// Whom it is for.
    pub roles: BTreeSet<String>,
    /// A predicate, or what stands for a column.
    pub using: String,
}

impl Policy {
    /// For messages.
    pub fn description(&self) -> String {
        let kind = if self.effect.column().is_some() { "mask" } else { "policy" };
        format!("{kind} \"{}\" for table \"{}\"", self.name, self.table)
    }
}

/// What the policies of a table leave one user to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restriction {
    /// Which rows; `None` are all.
    pub predicate: Option<String>,
    /// Columns and what stands for them.
    pub masks: Vec<(String, String)>,
}

impl Restriction {
    /// What these policies of one table leave a user of these roles to see; `None` is everything.
    ///
    /// A table with policies for somebody shows nobody else any rows. Of several masks of a column the first by its name
    /// counts.
    pub fn of<'a>(policies: impl Iterator<Item = &'a Policy>, roles: &BTreeSet<String>) -> Option<Self> {
        let (mut permissive, mut restrictive, mut masks) = (Vec::new(), Vec::new(), Vec::<(String, String)>::new());
        let mut has_row_policies = false;
        for policy in policies {
            let is_theirs = !policy.roles.is_disjoint(roles);
            match &policy.effect {
                Effect::Permissive | Effect::Restrictive => has_row_policies = true,
                Effect::Mask(column) if is_theirs && !masks.iter().any(|(masked, _)| masked == column) => {
                    masks.push((column.clone(), policy.using.clone()));
                }
                Effect::Mask(_) => {}
            }
            match &policy.effect {
                Effect::Permissive if is_theirs => permissive.push(in_parentheses(&policy.using)),
                Effect::Restrictive if is_theirs => restrictive.push(in_parentheses(&policy.using)),
                _ => {}
            }
        }
        let predicate = has_row_policies.then(|| match permissive.is_empty() {
            true => "false".to_owned(),
            false => {
                let permitted = in_parentheses(&permissive.join(" OR "));
                std::iter::once(permitted).chain(restrictive).collect::<Vec<_>>().join(" AND ")
            }
        });
        (predicate.is_some() || !masks.is_empty()).then_some(Self { predicate, masks })
    }
}

/// An expression of a user in another one. It may end with a comment, which ends with its line.
pub fn in_parentheses(expression: &str) -> String {
    format!("({expression}\n)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, effect: Effect, roles: &[&str], using: &str) -> Policy {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        Policy { name: name.to_owned(), table: TableName::new("c", "s", "t"), effect, roles, using: using.to_owned() }
    }

    fn roles(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn permissive_policies_add_rows_and_restrictive_ones_take_them() {
        let policies = [
            policy("a", Effect::Permissive, &["sales"], "x = 1"),
            policy("b", Effect::Permissive, &["public"], "y"),
            policy("c", Effect::Restrictive, &["public"], "z"),
        ];
        let of = |names: &[&str]| Restriction::of(policies.iter(), &roles(names)).expect("there are policies");
        let predicate = of(&["ann", "sales", "public"]).predicate.expect("a predicate").replace('\n', "");
        assert_eq!(predicate, "((x = 1) OR (y)) AND (z)");
        let only_others = Restriction::of(policies[..1].iter(), &roles(&["bob", "public"]));
        assert_eq!(only_others.expect("a restriction").predicate.as_deref(), Some("false"));
        let only_restrictive = Restriction::of(policies[2..].iter(), &roles(&["bob", "public"]));
        assert_eq!(only_restrictive.expect("a restriction").predicate.as_deref(), Some("false"));
        assert_eq!(Restriction::of([].iter(), &roles(&["bob"])), None);
    }

    #[test]
    fn a_mask_is_for_its_roles_and_hides_no_rows() {
        let policies = [
            policy("first", Effect::Mask("phone".to_owned()), &["support"], "'1'"),
            policy("second", Effect::Mask("phone".to_owned()), &["public"], "'2'"),
        ];
        let of = |names: &[&str]| Restriction::of(policies.iter(), &roles(names)).expect("there are masks");
        let wanted = |value: &str| Restriction { predicate: None, masks: vec![("phone".to_owned(), value.to_owned())] };
        assert_eq!((of(&["support", "public"]), of(&["public"])), (wanted("'1'"), wanted("'2'")));
        assert_eq!(Restriction::of(policies[..1].iter(), &roles(&["public"])), None);
    }
}
