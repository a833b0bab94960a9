//! COPY text format.
