"""The packed file of a dataset (RecordIO): records, index, reading and writing."""
