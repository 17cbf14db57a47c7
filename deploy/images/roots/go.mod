// Where the images' root certificates come from. In a module of its own, so that nothing that ships requires it.
module github.com/rajsinghtech/tailgate/deploy/images/roots

go 1.26.6

require golang.org/x/crypto/x509roots/fallback v0.0.0-20261030153154-30a33513ff6d
