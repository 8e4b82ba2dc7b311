//! `sps.toml`: what is accepted is printed as what is accepted again, and means the same.

use sps_conf::Config;
use std::path::Path;

/// The text of a configuration.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = Path::new("sps.toml");
    match Config::parse(file, text) {
        Ok((config, _)) => {
            let printed = config.render();
            match Config::parse(file, &printed) {
                Ok((again, _)) => assert_eq!(again, config, "printed as\n{printed}"),
                Err(problems) => panic!("its own print is refused: {problems}\n{printed}"),
            }
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}
