package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile bounds one configuration file and what file() reads, in bytes.
const maxFile = 1 << 20

// source is one file as it was read.
type source struct {
	name string
	data []byte
}

// read finds and reads the files that paths stand for. It collects all errors.
func read(paths []string) ([]source, Errors) {
	var sources []source
	var errs Errors
	if len(paths) == 0 {
		errs = append(errs, &Error{Text: "no configuration given; name a file, or a directory with *.hcl files"})
	}
	seen := map[string]bool{}
	for _, path := range paths {
		names, err := expand(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, name := range names {
			if seen[filepath.Clean(name)] {
				continue // named twice: as a file and by its directory
			}
			seen[filepath.Clean(name)] = true
			data, err := readFile(name)
			if err != nil {
				errs = append(errs, &Error{File: name, Text: err.Error()})
				continue
			}
			sources = append(sources, source{name, data})
		}
	}
	return sources, errs
}

// expand returns the configuration files of a directory, sorted, or path itself.
func expand(path string) ([]string, *Error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, &Error{File: path, Text: explainFile(err) + "; name a file, or a directory with *.hcl files"}
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, &Error{File: path, Text: explainFile(err)}
	}
	var names []string
	for _, entry := range entries {
		extension := filepath.Ext(entry.Name())
		hidden := strings.HasPrefix(entry.Name(), ".")
		if !entry.IsDir() && !hidden && (extension == ".hcl" || extension == ".json") {
			names = append(names, filepath.Join(path, entry.Name()))
		}
	}
	if len(names) == 0 {
		return nil, &Error{File: path, Text: "the directory has no *.hcl or *.json file"}
	}
	slices.Sort(names)
	return names, nil
}

// readFile reads a file of at most maxFile bytes. Its errors do not name it.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, errors.New(explainFile(err))
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("this is not a regular file")
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("the file has %d bytes, the limit is %d", info.Size(), maxFile)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, errors.New(explainFile(err))
	}
	return data, nil
}

// explainFile says what a file error means to the user.
func explainFile(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file or directory"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied: the user that runs serai must be able to read it"
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}
