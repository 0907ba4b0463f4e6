use crate::document::Document;
use std::path::Path;
pub fn write(_d: &[&Document], _p: &Path) -> std::io::Result<()> {
    Ok(())
}
