// Package secret knows what TLS contexts refer to: files, environment variables,
// and secrets that a control plane, the bootstrap file or a server of the user's
// own has by name.
//
//	             Reading (one resource that is being decoded)
//	                │ Text, Leaf, Secret
//	                ▼
//	files ────▶  Store  ◀──── Set (ADS, bootstrap)
//	(polled)        ▲
//	                └──────── Server (SDS; one stream for each secret)
//
// A reference is resolved while its resource is decoded, so that snapshots hold
// nothing but PEM and stay immutable. The [Reading] of the resource remembers what
// it was told: when that changes the resource is decoded anew.
//
// What was good once stays until something good comes in its place: a file that
// cannot be read, a certificate without its key (one of them was written, the other
// is yet to be), a secret that does not decode. Such trouble is counted, and told
// once it has lasted.
//
// Files are looked at once a second, by their names: whoever replaces a directory
// behind a symbolic link, as Kubernetes does, is seen as well as who writes in place.
//
// Alternative not taken: inotify. Envoy uses it and sees only files that are moved
// into place, on file systems that tell; a stat of a few files a second costs
// nothing, and nothing at all where no file is referred to.
package secret
