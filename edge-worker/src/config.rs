//! The worker's settings, from the variables and secrets of its deployment.

/// Where the origin is and what protects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The origin's address, without a slash at its end.
    pub origin_url: String,
    /// What readers must know, and what the origin is told.
    pub secret: Option<String>,
}

/// Why the worker cannot serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// `ORIGIN_URL` is not set.
    OriginMissing,
    /// `ORIGIN_URL` is no address: this is its value.
    OriginInvalid(String),
    /// `LIMN_SECRET` is set to nothing: neither open nor closed.
    SecretEmpty,
}

impl Config {
    /// Reads the settings by name.
    ///
    /// # Errors
    /// One of them is missing or has no meaning.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let origin_url = variable("ORIGIN_URL").filter(|url| !url.is_empty());
        let origin_url = origin_url.ok_or(ConfigError::OriginMissing)?;
        if !origin_url.starts_with("http://") && !origin_url.starts_with("https://") {
            return Err(ConfigError::OriginInvalid(origin_url));
        }
        let secret = variable("LIMN_SECRET");
        if secret.as_deref().is_some_and(str::is_empty) {
            return Err(ConfigError::SecretEmpty);
        }
        Ok(Self { origin_url: origin_url.trim_end_matches('/').to_owned(), secret })
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OriginMissing => f.write_str("`ORIGIN_URL` is not set"),
            Self::OriginInvalid(url) => {
                write!(f, "`ORIGIN_URL` is `{url}`, expected `http://…` or `https://…`")
            }
            Self::SecretEmpty => {
                f.write_str("`LIMN_SECRET` is empty; set it to the origin's secret or remove it")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Config::from_variables(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_origin_is_needed_and_the_secret_is_not() {
        let open = config(&[("ORIGIN_URL", "http://127.0.0.1:3000/")]);
        assert_eq!(open, Ok(Config { origin_url: "http://127.0.0.1:3000".to_owned(), secret: None }));
        let closed = config(&[("ORIGIN_URL", "https://o.example"), ("LIMN_SECRET", "s")]);
        assert_eq!(closed.map(|config| config.secret), Ok(Some("s".to_owned())));
    }

    #[test]
    fn settings_without_meaning_are_refused() {
        assert_eq!(config(&[]), Err(ConfigError::OriginMissing));
        assert_eq!(config(&[("ORIGIN_URL", "")]), Err(ConfigError::OriginMissing));
        assert_eq!(config(&[("ORIGIN_URL", "o:1")]), Err(ConfigError::OriginInvalid("o:1".to_owned())));
        let empty_secret = config(&[("ORIGIN_URL", "http://o"), ("LIMN_SECRET", "")]);
        assert_eq!(empty_secret, Err(ConfigError::SecretEmpty));
    }
}
