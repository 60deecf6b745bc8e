//! `sluice create-superuser`: the first role of a service that asks for passwords.

use std::io::{IsTerminal, Read};

use super::args::CreateSuperuserArgs;
use super::config::{FileConfig, default_data_dir};
use super::serve::lock;
use crate::engine::{LoginPolicy, ROLES_FILE, Roles};

/// Creates the role. The service must not run: it has the roles in its memory.
pub fn run(args: CreateSuperuserArgs) -> Result<(), String> {
    let file = FileConfig::read(args.config.as_deref())?;
    let data_dir = match args.data_dir.or(file.data_dir) {
        Some(path) => path,
        None => default_data_dir()?,
    };
    let _lock = lock(&data_dir)?;
    let roles = Roles::open(data_dir.join(ROLES_FILE), LoginPolicy::Trust).map_err(|error| error.to_string())?;
    let password = match args.password {
        Some(password) => password,
        None => read_password(&args.name)?,
    };
    roles.create_superuser(&args.name, &password).map_err(|error| error.to_string())?;
    println!("Role {} is a superuser and may log in; start the service with --auth password", args.name);
    Ok(())
}

/// The first line of standard input; a terminal is asked for it.
fn read_password(name: &str) -> Result<String, String> {
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password(format!("Password of {name}: ")).map_err(|error| error.to_string());
    }
    let mut text = String::new();
    std::io::stdin().take(4_096).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
