package attribute

type KeyValue struct{}

func String(key, value string) KeyValue { return KeyValue{} }
